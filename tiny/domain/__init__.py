"""What is drawn and said, and how clips are judged: scenes, movements, captions, measures."""
