//! Models of designs: small worlds in which a rule that is left out shows as a broken promise.

mod delivery_ids;
