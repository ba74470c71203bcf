"""Our figures beside the machine's raw limits, measured in the same run: `make bench`.

Every measurement runs in a process of its own, in rounds that alternate with the raw limits (the disk drifts
by a factor of two within an hour), and the table shows medians and the ratio to the raw limit of the same
round. Absolute figures say little about another machine; the ratios do.
"""
