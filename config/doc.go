// Package config is what the user wrote: it reads a YAML file, or one of MirrorMaker 2, fills in the defaults and refuses what cannot work.
//
// # How a file becomes a Config
//
//	bytes ──yaml──▶ nodes with lines ──walk──▶ typed values ──koanf──▶ Config ──Validate──▶ Config or *Error
//	                                   │
//	                                   └── ${NAME} replaced, keys and types checked against the struct tags
//
// koanf merges and decodes, but it knows no lines. So the parser that is given to koanf walks the YAML nodes beside the
// Go type of Config: whatever koanf sees has the right keys and the right types already, and every complaint has a line.
//
// A file of MirrorMaker 2 (mm2.properties, told by its content) takes another way to the same Config: properties.go reads
// it as Java does, mm2.go, mm2flows.go, mm2takeover.go, mm2clusters.go and mm2tls.go look its keys up with MirrorMaker 2's precedence, mm2notes.go says what
// becomes of the keys that are left, javaregex.go refuses patterns that Go would read differently, and convert.go writes
// the result as YAML. Its defaults are MirrorMaker 2's.
//
// # Rules
//
//   - The struct tags of Config are the only list of keys. A key that is not there is an error, with the nearest one named.
//   - A default is what an absent key means. A key that is written always counts: "topics_exclude: []" excludes nothing, and
//     "shards: 0" is refused and not taken for the default.
//   - Lists replace the default, mappings (anomalies) are laid over it.
//   - A type is never guessed: 123 is not text, "2" is not a duration. YAML reads yes, 1e3 and 012 in surprising ways, and a
//     password of digits would change silently.
//   - ${NAME} is replaced in values, never in keys, once (a value is not searched again), and a NAME that is not set is an
//     error. $${ stands for ${. Only a value that contains ${NAME} may turn into a number or a truth.
//   - All problems come in one *Error, ordered by line. A mistake is told once: what follows from it is left out.
//   - No network and no files other than the one that is loaded, and those that config providers of an mm2.properties file
//     name: "milena check" does that. Paths in TLS and SASL are opened when a client is built, which is also when the
//     format of a key store is seen.
//   - A Secret never prints. No message quotes the value of a secret, nor a value that came from the environment.
//
// The package is floor 0: it imports no other package of milena and no Kafka client, so a text that names an anomaly or an
// action is declared here as well as in policy, with the same letters.
package config
