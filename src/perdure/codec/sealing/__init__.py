"""Bytes around bytes: compression and encryption of what is kept.

envelope.py     what encoded bytes look like: a head in the clear, and a body
chain.py        codecs one after the other, and what they are told of each payload
keys.py         rings of keys: the newest encrypts, any decrypts
encryption.py   AES-256-GCM
compression.py  zstd, with a limit on what comes out
"""
