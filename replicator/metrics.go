package replicator

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// flowMetrics are the counters of one flow. Every series carries the flow's name as a label, which the registerer adds. What is a
// property of a partition at one moment is read when it is scraped (collector.go) and costs nothing meanwhile.
type flowMetrics struct {
	batches         *prometheus.CounterVec // topic, lane, reason
	records         *prometheus.CounterVec // topic
	bytes           *prometheus.CounterVec // topic
	anomalies       *prometheus.CounterVec // topic, kind, action
	latency         prometheus.Histogram
	recordAge       prometheus.Histogram
	checkpoints     prometheus.Histogram
	requests        *prometheus.HistogramVec // cluster, request
	requestErrors   *prometheus.CounterVec   // cluster, request
	throttled       *prometheus.CounterVec   // cluster
	retries         *prometheus.CounterVec   // request
	produceErrors   *prometheus.CounterVec   // outcome
	doubts          prometheus.Counter
	takeOvers       *prometheus.CounterVec // result
	takeOverSeconds prometheus.Histogram
	reconciled      prometheus.Counter
	inherited       prometheus.Counter
	journalWrites   *prometheus.CounterVec // result
	journalCorrupt  prometheus.Counter
	passes          *prometheus.CounterVec // pass, result
	configChanges   prometheus.Counter
	aclChanges      *prometheus.CounterVec // change
	internalWrites  *prometheus.CounterVec // cluster, topic
	internalErrors  *prometheus.CounterVec // cluster, topic
	groupCommits    prometheus.Counter
	groupRefusals   *prometheus.CounterVec // reason
}

func newFlowMetrics(r prometheus.Registerer) *flowMetrics {
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "milena_" + name, Help: help}, labels)
		r.MustRegister(v)
		return v
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "milena_" + name, Help: help})
		r.MustRegister(c)
		return c
	}
	m := &flowMetrics{
		batches:        counters("batches_total", "Source batches by lane: forwarded as they are, rebuilt or dropped for a reason.", "topic", "lane", "reason"),
		records:        counters("records_total", "Records acknowledged by the target.", "topic"),
		bytes:          counters("bytes_total", "Bytes of batches acknowledged by the target, as they are on the wire.", "topic"),
		anomalies:      counters("anomalies_total", "Anomalies by kind and by what policy did.", "topic", "kind", "action"),
		requestErrors:  counters("request_errors_total", "Requests of the data path that got no answer.", "cluster", "request"),
		throttled:      counters("throttled_seconds_total", "Time that brokers asked this client to wait because of quotas.", "cluster"),
		retries:        counters("retries_total", "Requests of the data path that had to be made again.", "request"),
		produceErrors:  counters("produce_errors_total", "Batches that the target did not acknowledge, by what follows from its answer.", "outcome"),
		doubts:         counter("doubts_total", "Partitions sent to a take-over because a write may or may not have happened."),
		takeOvers:      counters("takeovers_total", "Take-overs of shards by result.", "result"),
		reconciled:     counter("reconciled_batches_total", "Batches of unknown fate that were found in the target's log and kept."),
		inherited:      counter("migrated_partitions_total", "Partitions that were migrated from MirrorMaker 2."),
		journalWrites:  counters("journal_writes_total", "Writes to the journal by result.", "result"),
		journalCorrupt: counter("journal_unreadable_records_total", "Journal records that could not be read and were left out."),
		passes:         counters("passes_total", "Passes over topics, configs, ACLs and groups by result.", "pass", "result"),
		configChanges:  counter("topic_config_changes_total", "Topic configs altered on the target."),
		aclChanges:     counters("acl_changes_total", "ACLs created and deleted on the target, and those that began to be refused there.", "change"),
		internalWrites: counters("internal_topic_records_total", "Heartbeats, checkpoints and offset-syncs written.", "cluster", "topic"),
		internalErrors: counters("internal_topic_errors_total", "Writes of heartbeats, checkpoints and offset-syncs that failed and are retried.", "cluster", "topic"),
		groupCommits:   counter("group_commits_total", "Offsets of consumer groups committed on the target."),
		groupRefusals:  counters("group_refusals_total", "Committed offsets of consumer groups that began to be refused, by reason.", "reason"),
	}
	ages := func(name, help string) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "milena_" + name, Help: help, Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600, 3600, 86400},
		})
		r.MustRegister(h)
		return h
	}
	m.latency = ages("latency_seconds", "Time from a batch's newest record timestamp to the target's acknowledgement.")
	m.recordAge = ages("record_age_seconds", "Age of a batch's newest record when it was read from the source.")
	m.checkpoints = ages("checkpoint_latency_seconds", "Time from reading a group's committed offset on the source to the acknowledgement of its checkpoint.")
	m.takeOverSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "milena_takeover_seconds", Help: "Time that take-overs of shards took.", Buckets: prometheus.ExponentialBuckets(.002, 2, 14),
	})
	m.requests = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "milena_request_seconds", Help: "Time of fetch and produce requests; a fetch waits for records up to half a second.", Buckets: prometheus.ExponentialBuckets(.0005, 2, 16),
	}, []string{"cluster", "request"})
	r.MustRegister(m.takeOverSeconds, m.requests)
	return m
}

// observer measures the data path's requests to one cluster.
func (m *flowMetrics) observer(cluster string) func(request string, took time.Duration, err error) {
	fetch, produce := m.requests.WithLabelValues(cluster, "fetch"), m.requests.WithLabelValues(cluster, "produce")
	return func(request string, took time.Duration, err error) {
		if err != nil {
			m.requestErrors.WithLabelValues(cluster, request).Inc()
			return
		}
		if request == "fetch" {
			fetch.Observe(took.Seconds())
		} else {
			produce.Observe(took.Seconds())
		}
	}
}

// topicMetrics are the counters of one source topic, looked up once.
type topicMetrics struct {
	flow           *flowMetrics
	topic          string
	forwarded      prometheus.Counter
	records, bytes prometheus.Counter
	totals         *totals
}

func (m *flowMetrics) forTopic(topic string, t *totals) *topicMetrics {
	return &topicMetrics{
		flow: m, topic: topic, totals: t,
		forwarded: m.batches.WithLabelValues(topic, recordbatch.RouteForward.String(), ""),
		records:   m.records.WithLabelValues(topic), bytes: m.bytes.WithLabelValues(topic),
	}
}

// read notes the age of what is copied. A batch without a timestamp (-1) has none.
func (m *flowMetrics) read(maxTimestamp int64, now time.Time) {
	if maxTimestamp > 0 {
		m.recordAge.Observe(max(0, float64(now.UnixMilli()-maxTimestamp)/1000))
	}
}

func (t *topicMetrics) lane(lane recordbatch.Route, reason recordbatch.Reason) {
	if lane == recordbatch.RouteForward {
		t.forwarded.Inc()
		return
	}
	t.flow.batches.WithLabelValues(t.topic, lane.String(), reason.String()).Inc()
}

func (t *topicMetrics) acked(b prepared, now time.Time) {
	t.records.Add(float64(b.count))
	t.bytes.Add(float64(len(b.batch)))
	t.totals.records.Add(int64(b.count))
	t.totals.bytes.Add(int64(len(b.batch)))
	if b.maxTimestamp > 0 {
		t.flow.latency.Observe(max(0, float64(now.UnixMilli()-b.maxTimestamp)/1000))
	}
}

// collector reads the partitions of a flow when it is scraped, so that a partition that is gone leaves no series behind.
type collector struct {
	flow  *Flow
	descs map[string]*prometheus.Desc
}

func newCollector(f *Flow) *collector {
	c := &collector{flow: f, descs: make(map[string]*prometheus.Desc)}
	add := func(name, help string, labels ...string) {
		c.descs[name] = prometheus.NewDesc("milena_"+name, help, labels, nil)
	}
	partition := []string{"topic", "partition"}
	add("lag_records", "Records that may be read on the source and are not acknowledged by the target.", partition...)
	add("lag_bytes", "Estimate of the lag in bytes: records times the mean size of those copied last.", partition...)
	add("lag_seconds", "How far behind the copy is: age of the newest acknowledged record while there is lag, else 0.", partition...)
	add("source_end_offset", "End of what may be read on the source, exclusive.", partition...)
	add("acked_offset", "Source offset below which everything is on the target, exclusive.", partition...)
	add("journaled_offset", "Source offset below which the journal describes the copy, exclusive.", partition...)
	add("target_end_offset", "Target offset behind the last acknowledged record, exclusive.", partition...)
	add("last_progress_timestamp_seconds", "When the copy of a partition last moved.", partition...)
	add("partitions", "Partitions by state.", "state")
	add("shards", "Shards by state.", "state")
	add("topics_not_copied", "Topics that were asked for and are not copied, or not wholly; the status says why.")
	add("groups", "Consumer groups of the source that are translated.")
	add("group_positions", "Committed offsets of those groups in copied partitions.")
	add("group_positions_refused", "Of those, the offsets that are not on the target, by reason.", "reason")
	add("groups_last_pass_timestamp_seconds", "When the last sync of groups began.")
	add("configs_last_pass_timestamp_seconds", "When the last look at the topic configs began.")
	add("acls_last_pass_timestamp_seconds", "When the last look at the ACLs began.")
	add("buffer_bytes", "Bytes of batches held between source and target.")
	add("ready", "1 when every shard is owned and recovered.")
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(name string, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.GaugeValue, value, labels...)
	}
	status := c.flow.Status()
	states := map[string]int{waiting.String(): 0, recovering.String(): 0, replicating.String(): 0, halted.String(): 0}
	for _, p := range status.Partitions {
		states[p.State]++
		number := strconv.Itoa(int(p.Partition))
		if p.SourceEnd != nil {
			gauge("source_end_offset", float64(*p.SourceEnd), p.Topic, number)
		}
		if p.LagRecords != nil {
			gauge("lag_records", float64(*p.LagRecords), p.Topic, number)
		}
		if p.LagBytes != nil {
			gauge("lag_bytes", float64(*p.LagBytes), p.Topic, number)
		}
		if p.LagSeconds != nil {
			gauge("lag_seconds", *p.LagSeconds, p.Topic, number)
		}
		gauge("acked_offset", float64(p.Acked), p.Topic, number)
		gauge("journaled_offset", float64(p.Journaled), p.Topic, number)
		gauge("target_end_offset", float64(p.TargetEnd), p.Topic, number)
		if !p.LastProgress.IsZero() {
			gauge("last_progress_timestamp_seconds", float64(p.LastProgress.UnixMilli())/1000, p.Topic, number)
		}
	}
	for state, n := range states {
		gauge("partitions", float64(n), state)
	}
	for state, n := range status.Shards {
		gauge("shards", float64(n), state)
	}
	gauge("topics_not_copied", float64(len(status.NotCopied)))
	gauge("buffer_bytes", float64(c.flow.budget.held()))
	groups := status.Groups
	gauge("groups", float64(groups.Groups))
	gauge("group_positions", float64(groups.Positions))
	refused := make(map[string]int)
	for _, r := range groups.Refusals {
		refused[r.Reason] += r.Partitions
	}
	for reason, n := range refused {
		gauge("group_positions_refused", float64(n), reason)
	}
	passed := func(name string, at time.Time) {
		if !at.IsZero() {
			gauge(name, float64(at.UnixMilli())/1000)
		}
	}
	passed("groups_last_pass_timestamp_seconds", groups.LastPass)
	if status.Configs != nil {
		passed("configs_last_pass_timestamp_seconds", status.Configs.LastPass)
	}
	if status.ACLs != nil {
		passed("acls_last_pass_timestamp_seconds", status.ACLs.LastPass)
	}
	ready := 0.0
	if status.Ready {
		ready = 1
	}
	gauge("ready", ready)
}
