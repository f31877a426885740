"""What is drawn and said, and how a clip is told to show it: scenes, movements, captions, measures."""
