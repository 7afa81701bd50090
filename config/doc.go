// Package config reads the configuration, from a milena.yaml or from an mm2.properties file of MirrorMaker 2. It fills in
// the defaults and refuses what cannot work.
//
// # How a file becomes a Config
//
//	bytes ──yaml──▶ nodes with lines ──walk──▶ typed values ──koanf──▶ Config ──Validate──▶ Config or *Error
//	                                   │
//	                                   └── ${NAME} replaced, keys and types checked against the struct tags
//
// koanf merges and decodes, but it has no lines. So the parser that koanf is given walks the YAML nodes along the Go type
// of Config. What koanf gets already has the right keys and the right types, and every problem has a line.
//
// An mm2.properties file is recognized by its name or its content. It takes another way to the same Config, with
// MirrorMaker 2's defaults:
//
//	properties.go                                    reads the file as java.util.Properties does
//	providers.go                                     replaces references to Kafka's config providers
//	mm2.go mm2flows.go mm2migrate.go                 look up keys with MirrorMaker 2's precedence
//	mm2clusters.go mm2jaas.go mm2tls.go              the same for connections
//	mm2notes.go                                      explains the keys that are left
//	javalist.go javaregex.go                         reads lists of patterns, and refuses those that Go would read differently
//	javalook.go                                      rewrites lookaheads and lookbehinds as excludes
//	foreign.go strimzi.go                            turn a Strimzi resource, or connectors as JSON, into properties
//	convert.go                                       writes the result as YAML
//
// What a running process can take of a changed file is in one table, in changes.go, which also finds what has changed.
//
// Whether two flows may select the same topic is decided exactly, in overlap.go.
//
// # Rules
//
//   - The struct tags of Config are the list of keys. Any other key is an error that suggests the nearest key. The only
//     exception is a key that was renamed: its old name is still read, with a [Note].
//   - A default applies only if the key is absent. A key that is set always counts: "topics_exclude: []" excludes nothing,
//     and "shards: 0" is an error, not the default.
//   - A list replaces its default. A mapping (anomalies) is merged over its default.
//   - Types are never guessed: 123 is not text and "2" is not a duration. YAML reads yes, 1e3 and 012 in surprising ways,
//     and a password of digits would silently change.
//   - ${NAME} is replaced in values, not in keys, and only once: the replacement is not searched again. A variable that is
//     not set is an error. $${ is a literal ${. Only a value that contains ${NAME} may become a number or a boolean.
//   - All config errors are reported together in one *Error, ordered by line. An error that follows from another one is
//     left out.
//   - No network access. The only files that are read are the config file and, for an mm2.properties file, those that its
//     config providers name. "milena check" checks the rest. Files of TLS and SASL are opened when a client is built, which
//     is also when the type of a key store is detected.
//   - A Secret never prints, and no message quotes one. A value of the wrong type is not quoted either if it came from the
//     environment, because it may be a secret in the wrong place.
//
// The package is floor 0: it imports no other package of milena and no Kafka client. Therefore the names of anomaly kinds and
// actions are declared both here and in policy.
package config
