"""How the toy world is drawn: what lives in it, where it stands, what a camera makes of it."""
