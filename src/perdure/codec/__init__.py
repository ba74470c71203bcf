"""Values to bytes and back: what a history holds, and how code of today reads what code of then wrote.

    events.py      an event         <-> a format-version byte and msgpack, with upcasters for older formats
    values.py      a typed value    <-> JSON, refusing whatever would not come back as what it was
    arguments.py   a call's input   <-> canonical JSON: equal input, equal bytes, in any process
    failures.py    an exception      -> a `Failure`; rebuild.py goes back, importing and running nothing

Behind them, schema.py knows what an annotation can carry, foreign.py the types that msgspec doesn't know,
canonical.py how to order what has no order, stub.py whether a call fits, kinds.py and explain.py what a value
is made of and why it can't be carried, and bare.py how to read an exception without asking its class.

The layer knows no runs, clocks or stores. What it reads may come from another version of the program or from
a damaged disk, so reading raises `UndecodableError` and nothing else. What it writes is checked to be
readable, so a value that can't be carried fails in the first run, and never in a replay.
"""
