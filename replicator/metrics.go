package replicator

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/milena-kafka/milena/replicator/recordbatch"
)

// flowMetrics are the counters and histograms of one flow. The registerer adds the label flow to every series. Gauges are not here: the
// [collector] reads them when they are scraped, so they cost nothing in between.
type flowMetrics struct {
	batches         *prometheus.CounterVec // topic, lane, reason
	records         *prometheus.CounterVec // topic
	bytes           *prometheus.CounterVec // topic
	anomalies       *prometheus.CounterVec // topic, kind, action
	latency         prometheus.Histogram
	topicLatency    *prometheus.SummaryVec // topic; without quantiles: two series for each
	recordAge       prometheus.Histogram
	checkpoints     prometheus.Histogram
	requests        *prometheus.HistogramVec // cluster, request
	requestErrors   *prometheus.CounterVec   // cluster, request
	throttled       *prometheus.CounterVec   // cluster
	retries         *prometheus.CounterVec   // request
	produceErrors   *prometheus.CounterVec   // outcome
	doubts          prometheus.Counter
	takeovers       *prometheus.CounterVec // result
	takeoverSeconds prometheus.Histogram
	reconciled      prometheus.Counter
	migrated        prometheus.Counter
	journalWrites   *prometheus.CounterVec // result
	journalCorrupt  prometheus.Counter
	controlIgnored  prometheus.Counter
	differences     *prometheus.CounterVec // topic
	syncs           *prometheus.CounterVec // pass, result
	configChanges   prometheus.Counter
	aclChanges      *prometheus.CounterVec // change
	internalRecords *prometheus.CounterVec // cluster, topic
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
		batches:         counters("batches_total", "Source batches by route: forwarded unchanged, merged with others, rebuilt or dropped, with the reason.", "topic", "lane", "reason"),
		records:         counters("records_total", "Records acknowledged by the target.", "topic"),
		bytes:           counters("bytes_total", "Bytes of batches acknowledged by the target, compressed.", "topic"),
		anomalies:       counters("anomalies_total", "Anomalies by kind and action.", "topic", "kind", "action"),
		requestErrors:   counters("request_errors_total", "Fetch and produce requests without a response.", "cluster", "request"),
		throttled:       counters("throttled_seconds_total", "Throttle time that brokers imposed because of quotas.", "cluster"),
		retries:         counters("retries_total", "Fetch and produce requests without a response, after which milena retried or reconciled.", "request"),
		produceErrors:   counters("produce_errors_total", "Batches that the target did not acknowledge, by outcome.", "outcome"),
		doubts:          counter("doubts_total", "Partitions that needed a takeover because the outcome of a write was unknown."),
		takeovers:       counters("takeovers_total", "Takeovers of shards by result.", "result"),
		reconciled:      counter("reconciled_batches_total", "Batches of unknown outcome that were found in the target's log."),
		migrated:        counter("migrated_partitions_total", "Partitions that were migrated from MirrorMaker 2."),
		journalWrites:   counters("journal_writes_total", "Writes to the journal by result.", "result"),
		journalCorrupt:  counter("journal_unreadable_records_total", "Journal records that could not be read and were skipped."),
		controlIgnored:  counter("control_ignored_records_total", "Records of the control topic that are no decisions and were ignored."),
		differences:     counters("verify_differences_total", "Records that were verified in the background and are not equal on both sides.", "topic"),
		syncs:           counters("passes_total", "Syncs of topics, configs, ACLs and groups by result.", "pass", "result"),
		configChanges:   counter("topic_config_changes_total", "Topic configs altered on the target."),
		aclChanges:      counters("acl_changes_total", "ACLs created and deleted on the target, and those that began to be refused there.", "change"),
		internalRecords: counters("internal_topic_records_total", "Heartbeats, checkpoints and offset-syncs written.", "cluster", "topic"),
		internalErrors:  counters("internal_topic_errors_total", "Writes of heartbeats, checkpoints and offset-syncs that failed and are retried.", "cluster", "topic"),
		groupCommits:    counter("group_commits_total", "Committed offsets of consumer groups written on the target."),
		groupRefusals:   counters("group_refusals_total", "Committed offsets of consumer groups that began to be refused, by reason.", "reason"),
	}
	ages := func(name, help string) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "milena_" + name, Help: help, Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600, 3600, 86400},
		})
		r.MustRegister(h)
		return h
	}
	m.latency = ages("latency_seconds", "Time from a batch's newest record timestamp to the target's acknowledgement.")
	m.topicLatency = prometheus.NewSummaryVec(prometheus.SummaryOpts{
		Name: "milena_topic_latency_seconds", Help: "Time from a batch's newest record timestamp to the target's acknowledgement: sum and count of batches.",
	}, []string{"topic"})
	m.recordAge = ages("record_age_seconds", "Age of a batch's newest record when it was read from the source.")
	m.checkpoints = ages("checkpoint_latency_seconds", "Time from reading a group's committed offset on the source to the acknowledgement of its checkpoint.")
	m.takeoverSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "milena_takeover_seconds", Help: "Duration of takeovers of shards.", Buckets: prometheus.ExponentialBuckets(.002, 2, 14),
	})
	m.requests = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "milena_request_seconds", Help: "Duration of fetch and produce requests. A fetch waits up to half a second for records.", Buckets: prometheus.ExponentialBuckets(.0005, 2, 16),
	}, []string{"cluster", "request"})
	r.MustRegister(m.takeoverSeconds, m.requests, m.topicLatency)
	return m
}

// observer returns a function that measures the fetch and produce requests to one cluster.
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

// topicMetrics are the counters of one source topic. They are looked up once, not for each batch.
type topicMetrics struct {
	flow           *flowMetrics
	topic          string
	forwarded      prometheus.Counter
	merged         prometheus.Counter
	records, bytes prometheus.Counter
	latency        prometheus.Observer
	totals         *totals
}

func (m *flowMetrics) forTopic(topic string, t *totals) *topicMetrics {
	return &topicMetrics{
		flow: m, topic: topic, totals: t,
		forwarded: m.batches.WithLabelValues(topic, recordbatch.RouteForward.String(), ""),
		merged:    m.batches.WithLabelValues(topic, "merge", ""),
		records:   m.records.WithLabelValues(topic), bytes: m.bytes.WithLabelValues(topic),
		latency: m.topicLatency.WithLabelValues(topic),
	}
}

// observeAge records the age of a batch when it was read. A batch without a timestamp (-1) has none.
func (m *flowMetrics) observeAge(maxTimestamp int64, now time.Time) {
	if maxTimestamp > 0 {
		m.recordAge.Observe(max(0, float64(now.UnixMilli()-maxTimestamp)/1000))
	}
}

// countRoute counts a source batch that is not forwarded.
func (t *topicMetrics) countRoute(route recordbatch.Route, reason recordbatch.Reason) {
	t.flow.batches.WithLabelValues(t.topic, route.String(), reason.String()).Inc()
}

// countAcked counts a batch that the target acknowledged.
func (t *topicMetrics) countAcked(b prepared, now time.Time) {
	t.records.Add(float64(b.count))
	t.bytes.Add(float64(b.size))
	t.totals.records.Add(int64(b.count))
	t.totals.bytes.Add(int64(b.size))
	if b.maxTimestamp > 0 {
		seconds := max(0, float64(now.UnixMilli()-b.maxTimestamp)/1000)
		t.flow.latency.Observe(seconds)
		t.latency.Observe(seconds)
	}
}
