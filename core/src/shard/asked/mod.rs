//! Answering the shell.

mod on_asked;
mod retained;
mod subscribers;
mod traces;
mod waiting;
