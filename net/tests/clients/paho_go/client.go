package main

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const (
	wait = 12 * time.Second
	// The library sends without a bound; this is below the receive maximum of every usual broker.
	window = 15
	marker = "end"
)

// place is where one run of a scenario happens: the broker, and client ids and topics of its own.
type place struct {
	broker string
	tag    string
}

type options struct {
	keepSession bool
	keepAlive   time.Duration
	will        *message
}

type message struct {
	topic   string
	payload string
	qos     byte
	retain  bool
}

// client is an open connection whose events can be awaited.
type client struct {
	mqtt           mqtt.Client
	relay          *relay
	sessionPresent bool
	received       chan message
	lost           chan error
}

func (p *place) topic(rest string) string { return p.tag + "/" + rest }

// client connects; CONNACK 0 is here once it returns.
func (p *place) client(name string, opt options) *client {
	c := &client{relay: newRelay(p.broker), received: make(chan message, 4096), lost: make(chan error, 1)}
	set := mqtt.NewClientOptions().
		AddBroker("tcp://" + c.relay.address()).
		SetClientID(p.tag + "-" + name).
		SetProtocolVersion(4).
		SetCleanSession(!opt.keepSession).
		SetAutoReconnect(false).
		SetConnectTimeout(wait).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			c.received <- message{m.Topic(), string(m.Payload()), m.Qos(), m.Retained()}
		}).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { c.lost <- err })
	if opt.keepAlive != 0 {
		set.SetKeepAlive(opt.keepAlive)
	}
	if opt.will != nil {
		set.SetWill(opt.will.topic, opt.will.payload, opt.will.qos, opt.will.retain)
	}
	c.mqtt = mqtt.NewClient(set)
	settle(c.mqtt.Connect(), "CONNACK for "+name)
	c.sessionPresent = <-c.relay.sessionPresent
	return c
}

func (c *client) subscribe(filter string, qos byte) {
	// No handler of its own: everything goes to the default one, in order.
	settle(c.mqtt.Subscribe(filter, qos, nil), "SUBACK for "+filter)
}

func (c *client) unsubscribe(filter string) {
	settle(c.mqtt.Unsubscribe(filter), "UNSUBACK for "+filter)
}

// publish sends in order and waits for the last acknowledgement of each.
func (c *client) publish(messages ...message) {
	var open []mqtt.Token
	for _, m := range messages {
		open = append(open, c.mqtt.Publish(m.topic, m.qos, m.retain, m.payload))
		if len(open) == window {
			settle(open[0], "acknowledgement of a publish to "+m.topic)
			open = open[1:]
		}
	}
	for _, token := range open {
		settle(token, "acknowledgement of a publish")
	}
}

func (c *client) receive(count int) (messages []message) {
	deadline := time.After(wait)
	for len(messages) < count {
		select {
		case m := <-c.received:
			messages = append(messages, m)
		case <-deadline:
			fail("%d of %d messages within %v", len(messages), count, wait)
		}
	}
	return messages
}

// receiveUntilMarker takes what comes before the message whose payload is the marker.
func (c *client) receiveUntilMarker() (messages []message) {
	deadline := time.After(wait)
	for {
		select {
		case m := <-c.received:
			if m.payload == marker {
				return messages
			}
			messages = append(messages, m)
		case <-deadline:
			fail("no marker within %v after %d messages", wait, len(messages))
		}
	}
}

func (c *client) waitLost() {
	select {
	case <-c.lost:
	case <-time.After(wait):
		fail("no end of the connection within %v", wait)
	}
}

// close sends DISCONNECT and waits until the broker has ended the connection.
func (c *client) close() {
	// The library closes the socket under its own writer if DISCONNECT is not written within this time.
	c.mqtt.Disconnect(uint(wait / time.Millisecond))
	select {
	case <-c.relay.ended:
	case <-time.After(wait):
		fail("the broker kept the connection for %v after DISCONNECT", wait)
	}
}

// cut ends the connection without DISCONNECT.
func (c *client) cut() { c.relay.cut() }

func settle(token mqtt.Token, what string) {
	if !token.WaitTimeout(wait) {
		fail("no %s within %v", what, wait)
	}
	if err := token.Error(); err != nil {
		fail("%s: %v", what, err)
	}
}

func fail(format string, arguments ...interface{}) { panic(fmt.Sprintf(format, arguments...)) }

func check(holds bool, format string, arguments ...interface{}) {
	if !holds {
		fail(format, arguments...)
	}
}

// relay stands between one client and the broker: the library can neither end a connection without DISCONNECT nor
// tell whether the session was present.
type relay struct {
	listener       net.Listener
	sessionPresent chan bool
	ended          chan struct{}
	once           sync.Once
	mutex          sync.Mutex
	sockets        []net.Conn
}

func newRelay(broker string) *relay {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err == nil, "listen: %v", err)
	r := &relay{listener: listener, sessionPresent: make(chan bool, 1), ended: make(chan struct{})}
	go r.serve(broker)
	return r
}

func (r *relay) address() string { return r.listener.Addr().String() }

func (r *relay) serve(broker string) {
	local, err := r.listener.Accept()
	if err != nil {
		return
	}
	remote, err := net.Dial("tcp", broker)
	if err != nil {
		local.Close()
		return
	}
	r.mutex.Lock()
	r.sockets = []net.Conn{local, remote}
	r.mutex.Unlock()
	go func() {
		io.Copy(remote, local)
		// The client has closed its side: so does the relay, as the kernel would.
		remote.(*net.TCPConn).CloseWrite()
	}()
	connack := make([]byte, 4)
	if _, err := io.ReadFull(remote, connack); err == nil {
		r.sessionPresent <- connack[2]&1 == 1
		local.Write(connack)
		io.Copy(local, remote)
	}
	r.cut()
	r.once.Do(func() { close(r.ended) })
}

func (r *relay) cut() {
	r.listener.Close()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, socket := range r.sockets {
		socket.Close()
	}
}
