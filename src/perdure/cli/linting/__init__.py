"""Static checks of workflow code: what would differ on replay, or fails there, found without importing anything.

`rules.py` says what is looked for and why, `module.py` finds the workflow code of a module, `checks.py` and
`sets.py` look at it, and `files.py` goes through files and honours `# noqa`.
"""
