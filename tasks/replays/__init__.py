"""How replays are done: dead letters read back and produced again, ranges run again, runs kept."""
