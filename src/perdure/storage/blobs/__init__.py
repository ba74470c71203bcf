"""Large events as files: in a folder, or wherever fsspec can write, named by what is in them.

places.py writes and reads them, store.py is the store around a store that puts them there, collecting.py removes those
that no event refers to.
"""
