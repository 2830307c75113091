"""Rules about the hook itself: is it there, can it run, is it run."""
