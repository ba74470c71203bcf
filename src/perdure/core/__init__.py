"""The pure core: values in, values out.

Three rules of this room: no I/O, no clock, no randomness or threads of its own. Time, ids and random
sources arrive as arguments. Whatever changes what a run does next is decided here and nowhere else.
"""
