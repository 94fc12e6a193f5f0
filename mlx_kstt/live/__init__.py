"""A live session around a stream: what is kept, what is told, and the machine that must not fall asleep."""
