"""What is wrong with a database and its surroundings, why it matters, and what to do. `examination` is the door.

One file for each group of checks; each check returns findings and changes nothing.
"""
