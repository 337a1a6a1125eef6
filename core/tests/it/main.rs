//! The shards of a broker without sockets, in one world of clients: asks, conversations, bounds, threats,
//! `$SYS`, rules, runs, crashes, traces, the exploration of QoS 1 and 2, and models of what crashes do.

mod asks;
mod conversations;
mod dice;
mod durable;
mod explore;
mod findings;
mod models;
mod notes;
mod resources;
mod rules;
mod runs;
mod sys;
mod threats;
mod traces;
mod world;
