//! What a broker on a machine holds, by a model of its costs.
//!
//! `ringload plan` runs a designed set of loads ([`design`], [`measure`]), fits what things cost
//! ([`model`]), and writes a plan ([`file`]); `ringload predict` says what another load takes
//! ([`predict`]): CPU by [`model`], connections by [`room`], more cores by [`scale`].
//!
//! Everything but [`measure`] is arithmetic: no sockets, no clock, draws from fixed seeds.
//!
//! Not here: what each client does (`plan`, which has nothing to do with `ringload plan`), and the
//! load at which a latency is still met, which no model knows (`search`).

mod busy;
pub mod design;
pub mod file;
pub mod load;
pub mod measure;
pub mod model;
mod nnls;
pub mod predict;
pub mod room;
pub mod scale;
pub mod slope;
pub mod summary;
mod uncovered;

use nnls::nnls;
