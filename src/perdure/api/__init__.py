"""What users hold in the hand: decorators, calls, the engine, handles, and the functions used inside runs."""
