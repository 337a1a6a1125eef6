//! Models of the rules that durability rests on: with all of them no schedule breaks the promise, without any
//! one of them some schedule does.

mod checkpoint;
mod delivery_ids;
mod interrupted;
mod log_tail;
mod origins;
