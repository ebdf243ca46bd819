"""What type checkers see of the library: checked by them, run by nobody."""
