// Package e2e runs the built milena binary against real Apache Kafka brokers.
//
// The tests need Java 17 and Maven (apt-get install openjdk-17-jdk-headless maven); Kafka's jars come from Maven once, into the
// user's cache directory. They are skipped unless they are asked for:
//
//	MILENA_E2E=1 go test ./e2e -timeout 40m                      skip where Java or Maven is missing
//	MILENA_E2E=require go test ./e2e -timeout 40m                fail there
//	MILENA_E2E=1 go test ./e2e -run TestTwentyKills -v           one story, with its figures
//	MILENA_E2E_RACE=1                                            builds milena with the race detector
//	MILENA_E2E_BIN=path                                          runs this binary instead of building it
//	MILENA_E2E_SEED=17                                           repeats the random moments of an earlier run
//	MILENA_E2E_KEEP=dir                                          keeps logs and data there
//
// The parts, each usable alone: proc (processes and what they cost), kafka (clusters of real brokers, Kafka's own tools), proxy
// (a TCP proxy that cuts, freezes, slows or swallows), load (records of every shape, with sequence numbers), verify (the one
// verifier that each test ends in), daemon (a milena process), bench (the comparison with MirrorMaker 2).
package e2e
