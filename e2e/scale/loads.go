package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/milena-kafka/milena/offsets"
)

// load is what the clusters are asked to write, as command thin reads it.
type load struct {
	Size       int             `json:"size"`
	Watched    bool            `json:"watched"`
	Partitions []loadPartition `json:"partitions"`
}

type loadPartition struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Batches   float64 `json:"batches"`
}

// each calls do for every partition of the source, one of each topic before the next.
func (w *world) each(do func(topic string, partition, shard int32)) {
	for n := range int32(w.per) {
		for t := range w.topics {
			topic := fmt.Sprintf("many-%05d", t)
			do(topic, n, offsets.ShardOf(topic, n, shards))
		}
	}
}

// evenly returns so many partitions of every shard, with the batches of each as given for the shard.
func (w *world) evenly(perShard int, batches func(shard int32) float64) (list []loadPartition) {
	var chosen [shards]int
	w.each(func(topic string, partition, shard int32) {
		if chosen[shard] < perShard {
			chosen[shard]++
			list = append(list, loadPartition{topic, partition, batches(shard)})
		}
	})
	return list
}

// of returns all partitions of these shards, with one batch each.
func (w *world) of(numbers []int32) (list []loadPartition) {
	var wanted [shards]bool
	for _, k := range numbers {
		wanted[k] = true
	}
	w.each(func(topic string, partition, shard int32) {
		if wanted[shard] {
			list = append(list, loadPartition{topic, partition, 1})
		}
	})
	return list
}

func (w *world) fill(ctx context.Context, l load) error {
	return call(ctx, http.MethodPost, w.at.Control+"/fill", l, nil)
}

func (w *world) traffic(ctx context.Context, l load) error {
	return call(ctx, http.MethodPost, w.at.Control+"/traffic", l, nil)
}

// figures are what has arrived on the target.
type figures struct {
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
}

func (w *world) figures(ctx context.Context) (f figures, err error) {
	return f, call(ctx, http.MethodGet, w.at.Control+"/figures", nil, &f)
}

// delays are the times in ms of the slowest records.
type delays struct {
	Worst   map[string]float64 `json:"worst"`
	Pending int                `json:"pending"`
	Extra   int64              `json:"extra"`
}

func (w *world) delays(ctx context.Context) (d delays, err error) {
	return d, call(ctx, http.MethodPost, w.at.Control+"/delays", nil, &d)
}
