"""A model family outside mrigen: what somebody else's package looks like."""
