"""Whether synthetic heads are any good: figures beside those of real people and of ways that are known to be bad."""
