"""What every call passes on its way in and out. One concern a file; chain.py puts them in their order."""
