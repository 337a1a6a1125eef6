// Checks an MQTT broker with paho.mqtt.golang, speaking 3.1.1.
//
// Usage: paho_go HOST PORT [SCENARIO...]
//
// Prints one line per scenario, `ok NAME` or `FAIL NAME: why`, and exits with 1 if one failed. Every scenario runs
// with pairs pairs of client ids at once, so that publishers and subscribers meet on every shard of a broker that
// places clients by a hash of their id.
package main

import (
	"fmt"
	"net"
	"os"
)

const pairs = 8

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: paho_go HOST PORT [SCENARIO...]")
		os.Exit(2)
	}
	broker := net.JoinHostPort(os.Args[1], os.Args[2])
	type result struct {
		name string
		err  error
	}
	results := make(chan result)
	started := 0
	for _, each := range scenarios {
		if !wanted(each.name, os.Args[3:]) {
			continue
		}
		started++
		go func(each scenario) { results <- result{"3.1.1/" + each.name, runPairs(each, broker)} }(each)
	}
	failed := 0
	for ; started > 0; started-- {
		done := <-results
		if done.err == nil {
			fmt.Println("ok", done.name)
		} else {
			failed++
			fmt.Printf("FAIL %s: %v\n", done.name, done.err)
		}
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// runPairs runs one scenario for every pair of client ids and returns the first fault.
func runPairs(each scenario, broker string) (first error) {
	faults := make(chan error)
	for index := 0; index < pairs; index++ {
		go func(index int) {
			p := &place{broker: broker, tag: fmt.Sprintf("go-%d-%s-%d", os.Getpid(), each.name, index)}
			faults <- runOne(each, p)
		}(index)
	}
	for index := 0; index < pairs; index++ {
		if err := <-faults; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// runOne turns the panic of check and fail into the fault of this run. Clients stay connected until the program ends:
// the library panics when a connection goes while an acknowledgement waits to be written.
func runOne(each scenario, p *place) (err error) {
	defer func() {
		if caught := recover(); caught != nil {
			err = fmt.Errorf("%s: %v", p.tag, caught)
		}
	}()
	each.body(p)
	return nil
}

func wanted(name string, names []string) bool {
	for _, each := range names {
		if each == name {
			return true
		}
	}
	return len(names) == 0
}
