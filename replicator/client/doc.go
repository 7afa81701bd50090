// Package client turns the config of a Kafka cluster into a kgo client: brokers, TLS with PEM files and Java key stores, SASL, limits on new
// connections, and quotas.
//
//	clusters.go      a flow with both of its clusters, and clients for one-off requests
//	options.go       the one place that makes kgo options of a cluster's config
//	tls.go, stores.go, sasl.go    certificates, keys and passwords; files are read again at each connection
//	dial.go          bounds new connections per broker and second
//	throttle.go      which brokers throttle a flow because of quotas (KIP-219); pace.go makes requests smaller meanwhile
//	connecterror.go  says in a sentence why a cluster cannot be reached, and what to do
//	retry.go         backoff between attempts
//
// The package knows nothing of topics or batches.
package client
