"""The demonstration: real flights, a real job, and an answer to check it against."""
