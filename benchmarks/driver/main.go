// Driver loads a server with requests that were made before, as bytes, over gRPC or HTTP.
//
// With a rate it is an open loop: calls are sent when they are due, however many are under way, and each call's time counts from the
// moment when it was due, not from when it was sent. Without one it is a closed loop of some callers, each of which waits for its
// answer. It prints one JSON object.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"sync"
	"time"
)

// One call's record; its status is empty if it succeeded.
type record struct {
	latency, lag time.Duration
	status       string
}

func main() {
	kind := flag.String("kind", "grpc", "grpc or http")
	address := flag.String("address", "", "host:port")
	method := flag.String("method", "", "/package.Service/Method, or the path of a URL")
	payloads := flag.String("payloads", "", "file of requests, each with its length before it as a varint")
	metadata := flag.String("metadata", "", "file with the calls' metadata as a JSON object")
	connections := flag.Int("connections", 1, "how many connections share the calls")
	callers := flag.Int("callers", 1, "callers of a closed loop")
	rate := flag.Float64("rate", 0, "calls a second of an open loop")
	poisson := flag.Bool("poisson", false, "send at random moments instead of even ones")
	duration := flag.Duration("duration", time.Second, "for how long calls are begun")
	timeout := flag.Duration("timeout", 20*time.Second, "of one call")
	flag.Parse()

	requests, err := read(*payloads)
	check(err)
	headers, err := readMetadata(*metadata)
	check(err)
	call, err := caller(*kind, *address, *method, headers, *connections, *timeout)
	check(err)
	begun := time.Now()
	var records []record
	if *rate > 0 {
		records = open(call, requests, schedule(*rate, *duration, *poisson))
	} else {
		records = closed(call, requests, *callers, *duration)
	}
	check(json.NewEncoder(os.Stdout).Encode(summary(records, time.Since(begun))))
}

// The moments of an open loop, counted from its begin. Random ones are the same in every run.
func schedule(rate float64, duration time.Duration, poisson bool) []time.Duration {
	var due []time.Duration
	random, at := rand.New(rand.NewSource(1)), 0.0
	for at < duration.Seconds() {
		due = append(due, time.Duration(at*float64(time.Second)))
		if poisson {
			at += random.ExpFloat64() / rate
		} else {
			at += 1 / rate
		}
	}
	return due
}

func open(call call, requests [][]byte, due []time.Duration) []record {
	records := make([]record, len(due))
	var waiting sync.WaitGroup
	begun := time.Now()
	for i, at := range due {
		intended := begun.Add(at)
		time.Sleep(time.Until(intended))
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			sent := time.Now()
			status := call(i, requests[i%len(requests)])
			records[i] = record{latency: time.Since(intended), lag: sent.Sub(intended), status: status}
		}()
	}
	waiting.Wait()
	return records
}

func closed(call call, requests [][]byte, callers int, duration time.Duration) []record {
	found := make([][]record, callers)
	var waiting sync.WaitGroup
	until := time.Now().Add(duration)
	for c := range callers {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			for i := c; time.Now().Before(until); i += callers {
				sent := time.Now()
				status := call(c, requests[i%len(requests)])
				found[c] = append(found[c], record{latency: time.Since(sent), status: status})
			}
		}()
	}
	waiting.Wait()
	var records []record
	for _, each := range found {
		records = append(records, each...)
	}
	return records
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "driver:", err)
		os.Exit(1)
	}
}
