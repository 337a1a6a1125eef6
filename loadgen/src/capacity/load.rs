//! What a scenario asks of a broker per second.

use ringmq_core::codec::QoS;
use serde::{Deserialize, Serialize};

use crate::plan::{Matched, Plan};
use crate::scenario::Group;

/// Per second, unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Messages published.
    pub publications: f64,
    /// Messages delivered.
    pub deliveries: f64,
    /// Acknowledgements of both, in both directions: one at QoS 1, three at QoS 2.
    pub acknowledgements: f64,
    /// Payload of both, KiB.
    pub kib: f64,
    /// Packets that the broker receives: each may wake it up.
    pub arrivals: f64,
    /// Connections, in all.
    pub connections: f64,
}

impl Load {
    /// Of a planned scenario. An error names a group that has no rate.
    pub fn of(plan: &Plan) -> Result<Load, String> {
        let mut load = Load {
            connections: plan.scenario.client_count() as f64,
            ..Load::default()
        };
        for group in &plan.scenario.groups {
            if group.publish.is_some() {
                load.add_publications(rate_of(group)? * f64::from(group.clients), group);
            }
        }
        for (spec, planned) in plan.specs.iter().zip(&plan.groups) {
            let mut seen = std::collections::HashSet::new();
            for reading in &planned.readers {
                if let Some(own) = &reading.own {
                    load.add_matched(plan, own, spec.qos)?;
                }
                // A message for a shared subscription goes to one of its members.
                if let Some(share) = reading.share.as_ref().filter(|share| seen.insert(share.id)) {
                    load.add_matched(plan, &share.matched, spec.qos)?;
                }
            }
        }
        Ok(load)
    }

    /// As many times as much, with the same connections.
    pub fn times(self, factor: f64) -> Load {
        Load {
            publications: self.publications * factor,
            deliveries: self.deliveries * factor,
            acknowledgements: self.acknowledgements * factor,
            kib: self.kib * factor,
            arrivals: self.arrivals * factor,
            connections: self.connections,
        }
    }

    /// What a publisher's messages ask for: PUBACK goes out; of the three of QoS 2, PUBREL comes
    /// in.
    fn add_publications(&mut self, rate: f64, group: &Group) {
        let (acknowledgements, comes_in) = match group.qos {
            QoS::AtMostOnce => (0.0, 0.0),
            QoS::AtLeastOnce => (1.0, 0.0),
            QoS::ExactlyOnce => (3.0, 1.0),
        };
        self.publications += rate;
        self.acknowledgements += rate * acknowledgements;
        self.arrivals += rate * (1.0 + comes_in);
        self.kib += rate * group.payload.mean() / 1024.0;
    }

    /// What a subscriber's messages ask for: PUBACK comes in, and two of the three of QoS 2.
    fn add_deliveries(&mut self, rate: f64, qos: QoS, publisher: &Group) {
        let (acknowledgements, comes_in) = match qos {
            QoS::AtMostOnce => (0.0, 0.0),
            QoS::AtLeastOnce => (1.0, 1.0),
            QoS::ExactlyOnce => (3.0, 2.0),
        };
        self.deliveries += rate;
        self.acknowledgements += rate * acknowledgements;
        self.arrivals += rate * comes_in;
        self.kib += rate * publisher.payload.mean() / 1024.0;
    }

    fn add_matched(&mut self, plan: &Plan, matched: &Matched, qos: QoS) -> Result<(), String> {
        for stream in matched.streams() {
            let publisher = plan.sender(stream);
            let rate = rate_of(publisher)? / f64::from(publisher.topic_count().max(1));
            self.add_deliveries(rate, qos.min(publisher.qos), publisher);
        }
        Ok(())
    }
}

/// Messages per second of each client, in the mean.
fn rate_of(group: &Group) -> Result<f64, String> {
    let clients = group.clients;
    let mean = group
        .rate
        .as_ref()
        .map(|rates| rates.sum(clients, 0) / f64::from(clients));
    mean.ok_or_else(|| {
        format!(
            "group `{}` publishes as fast as it can, which is no load to predict: give it a rate \
             (--rate, or --set {}.rate=RATE)",
            group.name, group.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::file;

    fn load(toml: &str) -> Result<Load, String> {
        let scenario = file::parse("a", toml).unwrap();
        let plan = Plan::new(scenario, "0001", 2, true).unwrap();
        Load::of(&plan)
    }

    #[test]
    fn a_fleet_becomes_packets_and_bytes() {
        let fleet = "
            [[group]]
            name = 'meters'
            clients = 6000
            qos = 1
            publish = 'm/{index%3}/{index}'
            payload = '512:3,2048:1'
            rate = '1/m'
            [[group]]
            name = 'dashboards'
            clients = 3
            qos = 1
            subscribe = 'm/#'
            [[group]]
            name = 'one'
            clients = 1
            subscribe = 'm/{index}/+'
            [[group]]
            name = 'workers'
            clients = 5
            qos = 2
            subscribe = '$share/w/m/#'
            ";
        let load = load(fleet).unwrap();
        // 100/s come in; three dashboards and the shared group get all, the last one a third.
        let deliveries = 300.0 + 100.0 / 3.0 + 100.0;
        let expected = Load {
            publications: 100.0,
            deliveries,
            acknowledgements: 100.0 + 300.0 + 100.0,
            kib: (100.0 + deliveries) * 0.875,
            arrivals: 100.0 + 300.0 + 100.0,
            connections: 6009.0,
        };
        let pairs = [
            (load.publications, expected.publications),
            (load.deliveries, expected.deliveries),
            (load.acknowledgements, expected.acknowledgements),
            (load.kib, expected.kib),
            (load.arrivals, expected.arrivals),
            (load.connections, expected.connections),
        ];
        for (found, wanted) in pairs {
            assert!((found / wanted - 1.0).abs() < 1e-9, "{load:?} {expected:?}");
        }
    }

    #[test]
    fn four_packets_of_qos_2_have_two_directions() {
        let load = load(
            "
            [[group]]
            name = 'p'
            clients = 1
            qos = 2
            publish = 'a/{message%4}'
            rate = 100
            [[group]]
            name = 's'
            clients = 2
            qos = 2
            subscribe = 'a/1'
            ",
        );
        let load = load.unwrap();
        assert_eq!((load.publications, load.deliveries), (100.0, 50.0));
        assert_eq!(
            (load.acknowledgements, load.arrivals),
            (450.0, 200.0 + 100.0)
        );
        assert_eq!(load.times(2.0).publications, 200.0);
        assert_eq!(load.times(2.0).connections, 3.0);
    }

    #[test]
    fn a_closed_loop_is_no_load() {
        let problem = load(
            "
            [[group]]
            name = 'p'
            clients = 1
            publish = 'a'
            window = 5
            [[group]]
            name = 's'
            clients = 1
            subscribe = 'a'
            ",
        );
        assert!(problem.unwrap_err().contains("--set p.rate=RATE"));
    }
}
