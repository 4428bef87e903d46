//! Small models made through the messages, and what is refused.
