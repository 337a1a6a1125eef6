//! Takeover storms: a client connects again and again, without waiting for an answer (threat 47).
//!
//! The broker may see the CONNECTs in any order: an old one may take the session from the
//! connection that the client uses. The client then has to come back.

use crate::client::RUN_MAX;
use crate::link::{Link, LinkIndex};
use crate::will::LeftWill;
use crate::world::World;

impl World {
    /// Connects several times in a row. Only a client whose session is sure to go on does so: then
    /// all of its CONNECTs ask for the same.
    pub fn storm(&mut self, index: usize) {
        let client = &self.clients[index];
        if !client.is_open() || client.session_expiry() < RUN_MAX {
            return;
        }
        for _ in 0..self.rng.between(2, 4) {
            self.connect(index, false);
            self.put_on_link(index);
        }
    }

    /// Whether the broker may have seen a CONNECT of the client after it lost the connection that
    /// left this will, but for the connection `current`: a later one, or one that was late.
    pub fn may_have_returned(&self, will: &LeftWill, current: LinkIndex) -> bool {
        let began_at = self.links[will.link].accepted_at;
        let is_other = |(at, link): (LinkIndex, &Link)| {
            let is_late = !link.confirmed && link.ended_at.is_none_or(|ended| ended > began_at);
            let is_its_own = link.client == will.client && at != will.link && at != current;
            is_its_own && (at > will.link || is_late)
        };
        self.links.iter().enumerate().any(is_other)
    }

    /// Whether the broker has not seen the end of a CONNECT of this client that nobody waits for.
    /// It may make a new session once the present one has ended, and a later CONNECT resumes that.
    pub fn has_late_connect(&self, index: usize) -> bool {
        let mut links = self.links.iter();
        links.any(|link| link.client == index && !link.confirmed && link.ended_at.is_none())
    }

    /// Whether another connection of the same client may have taken its session: the shard has the
    /// whole CONNECT of it.
    pub fn has_rival(&self, at: LinkIndex) -> bool {
        let client = self.links[at].client;
        let is_rival =
            |link: &Link| link.client == client && link.up.is_empty() && link.ended_at.is_none();
        let mut others = self.links.iter().enumerate();
        others.any(|(other, link)| other != at && link.closed_at.is_none() && is_rival(link))
    }
}
