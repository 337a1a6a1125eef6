//! The load generator for MQTT brokers that comes with Ringmq.
