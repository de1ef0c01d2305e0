"""Data sets as `Source`s: arrays in memory, a folder of images, a prepared TFDS set."""
