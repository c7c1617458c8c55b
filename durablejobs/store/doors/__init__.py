"""One door for each kind of caller and subject. Here transactions begin and end, and no statement is written."""
