"""How jobs run and are stopped: whole programs as a user writes them, with all three lanes."""
