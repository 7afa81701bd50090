// Package client creates kgo clients from the config of a cluster: brokers, TLS with PEM files and Java key stores, SASL, a limit on new
// connections, and quota handling.
//
//	clusters.go      one flow and its two clusters; clients for one-off requests
//	options.go       the only place that turns a cluster's config into kgo options
//	tls.go           the TLS config of each new connection, from files that are read again
//	tlsfiles.go      what the TLS section names: PEM or a store, and its password
//	tlswatch.go      tells which files cannot be read, and which certificates expire
//	pem.go           certificates and keys in PEM
//	stores.go        the Java stores, JKS and PKCS12
//	sasl.go          SASL mechanisms and passwords
//	oauth.go         OAUTHBEARER: tokens from a file or a token endpoint
//	msk.go           AWS_MSK_IAM: credentials as AWS's SDK finds them, and the signature
//	kerberos.go      GSSAPI: tickets of a KDC, by a keytab or from a cache
//	loginerror.go    explains in one sentence why there is nothing to log in with
//	dial.go          limits new connections per broker address
//	guard.go         asks before each write of a request whether it may still be sent
//	throttle.go      which brokers throttle the flow because of a quota (KIP-219)
//	pace.go          smaller requests while a quota throttles
//	mute.go          until when a broker that throttles reads nothing from a connection
//	retry.go         backoff between attempts
//	connecterror.go  explains in one sentence why a cluster cannot be reached, and what to do
//	certificateerror.go  the same about certificates
//
// CA certificates, client certificates, their keys and all passwords, secrets and tokens are read again for each connection, so they can be replaced
// without a restart.
//
// The package knows nothing about topics or batches.
package client
