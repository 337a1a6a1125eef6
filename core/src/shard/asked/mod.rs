//! Answering the shell.

mod bulk;
mod on_asked;
mod retained;
mod subscribers;
mod traces;
mod waiting;
