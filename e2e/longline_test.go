package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/milena-kafka/milena/e2e/daemon"
	"github.com/milena-kafka/milena/e2e/kafka"
	"github.com/milena-kafka/milena/e2e/load"
	"github.com/milena-kafka/milena/e2e/proxy"
)

// A connection over a long line carries no more than its sockets hold per round trip. Partitions that share a full one are spread over more of them,
// while their batches are in flight, and nothing is lost, duplicated or out of order by that: not when the network fails meanwhile either, nor when
// milena is killed.
func TestPartitionsSpreadOverMoreConnectionsToAFarTarget(t *testing.T) {
	target := forgetful()
	target.Proxied = true
	p := startPair(t, kafka.Options{}, target)
	const (
		partitions   = 8
		perPartition = 2000 // records of 2 KiB: more than a minute on one connection
		rtt          = 40 * time.Millisecond
		window       = 32 << 10
	)
	topics := []string{"fresh", "old"}
	for i, from := range []time.Time{{}, in2023} {
		p.createTopic(topics[i], partitions, 1, "retention.ms=-1")
		check(t, p.writer(load.Options{Topic: topics[i], Partitions: partitions, From: from, Codec: "none"}).WriteShapes(t.Context(), perPartition, load.Sized(2<<10)))
	}
	for _, b := range p.target.Brokers() {
		b.Proxy().SetRTT(rtt)
		b.Proxy().SetWindow(window)
	}
	config := p.config(topics...)
	config["clusters"] = daemon.Map{
		"source": daemon.Map{"brokers": p.source.Addrs()},
		"target": daemon.Map{"brokers": p.target.ProxyAddrs()},
	}
	m := p.startMilena(config)
	eventually(t, 45*time.Second, "four connections", func() (bool, string) {
		return strings.Contains(m.Output(), "connections=4"), fmt.Sprint(m.ackedOffsets())
	})
	before := p.target.Accepted()
	check(t, p.target.Network(t.Context(), proxy.Cut))
	check(t, p.target.Network(t.Context(), proxy.Pass))
	eventually(t, 30*time.Second, "all of them are opened again", func() (bool, string) {
		opened := p.target.Accepted() - before
		return opened >= 4, fmt.Sprintf("%d opened", opened)
	})
	m.Kill()
	m.start()
	p.waitAndVerify(m, 2*time.Minute, int64(len(topics)*partitions*perPartition), topics...)
	m.stop()
}
