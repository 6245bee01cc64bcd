package main

import (
	"slices"
	"time"
)

// What is told of a run. Times are in milliseconds.
type told struct {
	Calls   int            `json:"calls"`
	Failed  int            `json:"failed"`
	Errors  map[string]int `json:"errors"`
	Seconds float64        `json:"seconds"`
	P50     float64        `json:"p50"`
	P95     float64        `json:"p95"`
	P99     float64        `json:"p99"`
	Slowest float64        `json:"slowest"`
	Lag99   float64        `json:"lag99"`
	LagMost float64        `json:"lag_most"`
}

func summary(records []record, took time.Duration) told {
	var latencies, lags []time.Duration
	failures := map[string]int{}
	for _, each := range records {
		lags = append(lags, each.lag)
		if each.status == "" {
			latencies = append(latencies, each.latency)
		} else {
			failures[each.status]++
		}
	}
	slices.Sort(latencies)
	slices.Sort(lags)
	return told{
		Calls: len(records), Failed: len(records) - len(latencies), Errors: failures, Seconds: took.Seconds(),
		P50: share(latencies, 0.50), P95: share(latencies, 0.95), P99: share(latencies, 0.99), Slowest: share(latencies, 1),
		Lag99: share(lags, 0.99), LagMost: share(lags, 1),
	}
}

// The value below which a share of the values lies, of values in their order.
func share(ordered []time.Duration, share float64) float64 {
	if len(ordered) == 0 {
		return 0
	}
	at := min(len(ordered)-1, int(float64(len(ordered))*share))
	return float64(ordered[at]) / float64(time.Millisecond)
}
