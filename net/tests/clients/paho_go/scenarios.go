package main

import (
	"fmt"
	"sort"
	"strings"
	"time"
)

type scenario struct {
	name string
	body func(*place)
}

var scenarios = []scenario{
	{"connect", connect},
	{"qos0", func(p *place) { inOrder(p, 0) }},
	{"qos1", func(p *place) { inOrder(p, 1) }},
	{"qos2", func(p *place) { inOrder(p, 2) }},
	{"wildcards", wildcards},
	{"retained", retained},
	{"shared", shared},
	{"will", will},
	{"session", session},
	{"takeover", takeover},
	{"keepalive", keepalive},
	{"large", large},
}

const messages = 120

func connect(p *place) {
	c := p.client("a", options{})
	check(!c.sessionPresent, "session present on a clean start")
	c.close()
}

// inOrder: every message of one publisher arrives once, in order, at the QoS of the publication.
func inOrder(p *place, qos byte) {
	subscriber, publisher := p.client("sub", options{}), p.client("pub", options{})
	subscriber.subscribe(p.topic("+"), 2)
	var sent []message
	for index := 0; index < messages; index++ {
		sent = append(sent, message{p.topic("t"), fmt.Sprint(index), qos, false})
	}
	publisher.publish(append(sent, message{p.topic("t"), marker, qos, false})...)
	checkEqual(subscriber.receiveUntilMarker(), sent, "messages")
}

func wildcards(p *place) {
	subscriber, publisher := p.client("sub", options{}), p.client("pub", options{})
	end := message{p.tag + "-marker", marker, 1, false}
	subscriber.subscribe(end.topic, 1)
	for _, row := range []struct{ filter, expected string }{
		{"a/+", "a/ a/b a/c"},
		{"a/#", "a a/ a/b a/b/c a/c"},
		{"+/b/+", "a/b/c"},
		{"+", "a"},
	} {
		subscriber.subscribe(p.topic(row.filter), 1)
		for _, topic := range []string{"a", "a/", "a/b", "a/b/c", "a/c", "/a"} {
			publisher.publish(message{p.topic(topic), topic, 1, false})
		}
		publisher.publish(end)
		var received []string
		for _, m := range subscriber.receiveUntilMarker() {
			received = append(received, m.payload)
		}
		sort.Strings(received)
		checkEqual(strings.Join(received, " "), row.expected, "filter "+row.filter)
		subscriber.unsubscribe(p.topic(row.filter))
	}
}

func retained(p *place) {
	publisher, live := p.client("pub", options{}), p.client("live", options{})
	topic := p.topic("r/x")
	live.subscribe(p.topic("r/#"), 1)
	publisher.publish(message{topic, "old", 1, true}, message{topic, "new", 1, true})
	// [MQTT-3.3.1-9] a message for an existing subscription carries retain = 0.
	checkEqual(live.receive(2), []message{{topic, "old", 1, false}, {topic, "new", 1, false}}, "live messages")
	for name, filter := range map[string]string{"exact": "r/x", "plus": "r/+", "hash": "r/#"} {
		late := p.client(name, options{})
		late.subscribe(p.topic(filter), 1)
		checkEqual(late.receive(1), []message{{topic, "new", 1, true}}, "retained messages of "+filter)
	}
	publisher.publish(message{topic, "", 1, true})
	after := p.client("after", options{})
	after.subscribe(p.topic("r/#"), 1)
	publisher.publish(message{p.topic("r/z"), marker, 1, false})
	checkEqual(len(after.receiveUntilMarker()), 0, "retained messages after their deletion")
}

// shared: each message goes to one member of the group, and each member gets some.
func shared(p *place) {
	members := []*client{p.client("one", options{}), p.client("two", options{})}
	publisher := p.client("pub", options{})
	for index, member := range members {
		member.subscribe("$share/g/"+p.topic("t"), 1)
		member.subscribe(p.topic(fmt.Sprintf("end/%d", index)), 1)
	}
	var sent, got []string
	for index := 0; index < messages; index++ {
		sent = append(sent, fmt.Sprintf("%03d", index))
		publisher.publish(message{p.topic("t"), sent[index], 1, false})
	}
	for index, member := range members {
		publisher.publish(message{p.topic(fmt.Sprintf("end/%d", index)), marker, 1, false})
		part := member.receiveUntilMarker()
		check(len(part) > 0, "member %d got nothing", index)
		for _, m := range part {
			got = append(got, m.payload)
		}
	}
	sort.Strings(got)
	checkEqual(got, sent, "messages of the group")
}

func will(p *place) {
	watcher := p.client("watch", options{})
	topic := p.topic("will")
	watcher.subscribe(topic, 2)
	for qos := byte(0); qos <= 2; qos++ {
		packet := message{topic, "gone", qos, false}
		p.client("cut", options{will: &packet}).cut()
		checkEqual(watcher.receive(1), []message{packet}, "will of a cut connection")
		p.client("polite", options{will: &packet}).close()
		// The same id once more: its CONNACK shows that the earlier connection has been dealt with.
		p.client("polite", options{}).publish(message{topic, marker, 1, false})
		checkEqual(len(watcher.receiveUntilMarker()), 0, "wills after DISCONNECT")
	}
}

func session(p *place) {
	kept := options{keepSession: true}
	publisher, subscriber := p.client("pub", options{}), p.client("sub", kept)
	check(!subscriber.sessionPresent, "session present at the first connect")
	subscriber.subscribe(p.topic("s/+"), 2)
	subscriber.close()
	expected := map[byte][]message{}
	for index := 0; index < messages/2; index++ {
		for qos := byte(1); qos <= 2; qos++ {
			m := message{p.topic(fmt.Sprintf("s/%d", qos)), fmt.Sprint(index), qos, false}
			expected[qos] = append(expected[qos], m)
			publisher.publish(m)
		}
	}
	subscriber = p.client("sub", kept)
	check(subscriber.sessionPresent, "no session present after a reconnect")
	publisher.publish(message{p.topic("s/last"), "last", 1, false})
	byQos := map[byte][]message{}
	for _, m := range subscriber.receive(messages + 1) {
		if m.payload != "last" {
			byQos[m.qos] = append(byQos[m.qos], m)
		}
	}
	checkEqual(byQos, expected, "queued messages")
	subscriber.close()
	check(!p.client("sub", options{}).sessionPresent, "session present on a clean start")
}

func takeover(p *place) {
	first := p.client("twin", options{keepSession: true})
	first.subscribe(p.topic("t"), 1)
	second := p.client("twin", options{keepSession: true})
	check(second.sessionPresent, "the second connection did not get the session")
	first.waitLost()
	second.publish(message{p.topic("t"), marker, 1, false})
	checkEqual(len(second.receiveUntilMarker()), 0, "messages before the marker")
}

func keepalive(p *place) {
	// Long enough that a library which pings late by half of it, on a busy machine, is in time.
	quiet := p.client("quiet", options{keepAlive: 6 * time.Second})
	quiet.subscribe(p.topic("k"), 1)
	// The rule speaks of time: past the interval and the broker's half interval of grace.
	time.Sleep(10200 * time.Millisecond)
	check(len(quiet.lost) == 0, "closed although it pings")
	quiet.publish(message{p.topic("k"), marker, 1, false})
	checkEqual(len(quiet.receiveUntilMarker()), 0, "messages before the marker")
}

func large(p *place) {
	subscriber, publisher := p.client("sub", options{}), p.client("pub", options{})
	subscriber.subscribe(p.topic("large"), 2)
	payload := strings.Repeat(p.tag+"0123456789abcdef", 200*1024/16)[:200*1024]
	for qos := byte(0); qos <= 2; qos++ {
		publisher.publish(message{p.topic("large"), payload, qos, false})
		m := subscriber.receive(1)[0]
		check(m.payload == payload && m.qos == qos, "200 KiB at QoS %d came back different", qos)
	}
}

func checkEqual(actual, expected interface{}, what string) {
	left, right := fmt.Sprint(actual), fmt.Sprint(expected)
	check(left == right, "%s: %.200s instead of %.200s", what, left, right)
}
