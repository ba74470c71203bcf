"""What users hold in the hand: decorators, calls, the engine, handles, and the functions used inside runs.

An engine leads to much that most programs never ask for. Its modules are imported by the methods that need them, so
that `import perdure` doesn't take longer with each; TYPE_CHECKING imports are for their annotations.
"""
