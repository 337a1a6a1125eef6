mod exhaustive;
mod recovery;
