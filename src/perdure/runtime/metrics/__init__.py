"""Numbers about what happens: which there are (catalogue), where they are kept (registry), who counts (counting).

No package is needed for counting; what shows the numbers to others is elsewhere.
"""
