//! What gathers cost, counted in gathers that are looked at.
