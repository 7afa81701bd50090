// Package replicatortest supports tests of package replicator, and of what is built on it, without a broker. It runs two fake Kafka clusters
// in the test's process and a real flow between them:
//
//	c := replicatortest.NewClusters(t, 1)
//	c.Source.CreateTopic("orders", 3)
//	c.Source.Produce("orders", 3, 100, "first")
//	f := c.Start()
//	f.UntilCopied("orders")
//	f.Stop()
//	c.Verify("orders", "a.orders", 3)
//
// A flow is configured as if it were read from a file that names both clusters and nothing else, so groups, heartbeats, checkpoints and config
// sync are on. A test that needs a setting changed passes a function to Start, and says why. The changed config must be valid too.
//
// Nothing here sleeps: the Until and Await helpers poll for an event, and fail the test if it does not happen within Patience. All helpers report
// to the test that created the clusters, and must be called from its goroutine.
//
// Cluster.Spoil and kfake's own Fault and ControlKey disturb requests. MirrorMaker imitates a MirrorMaker 2 that copies between the same clusters.
//
// Package replicator itself is used in flow.go only.
package replicatortest
