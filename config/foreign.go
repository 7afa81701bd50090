package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Where MirrorMaker 2 runs in a Connect cluster, its config is not an mm2.properties but JSON of its connectors, or a resource of the Strimzi
// operator. Both are turned into the properties that mean the same, with the path and the line of each.

const (
	sourceConnector     = "org.apache.kafka.connect.mirror.MirrorSourceConnector"
	checkpointConnector = "org.apache.kafka.connect.mirror.MirrorCheckpointConnector"
	heartbeatConnector  = "org.apache.kafka.connect.mirror.MirrorHeartbeatConnector"
)

// readForeign recognizes a Strimzi resource or connectors as JSON by its content.
func readForeign(data []byte) (file foreign, ok bool) {
	if !bytes.Contains(data, []byte("MirrorMaker")) && !bytes.Contains(data, []byte("connect.mirror.Mirror")) {
		return file, false
	}
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && bytes.ContainsAny(trimmed[:1], "{[") {
		data = bytes.ReplaceAll(data, []byte("\t"), []byte(" ")) // JSON allows them between values, and nowhere else
	}
	var documents []*yaml.Node
	for decoder := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return file, false // reported as what it looks like
		}
		documents = append(documents, itemsOf(document.Content[0])...)
	}
	r := foreignReader{}
	for _, document := range documents {
		if r.read(document) {
			ok = true
		}
	}
	if ok {
		r.finish()
	}
	return r.foreign, ok
}

// itemsOf are the elements of a list of resources or connectors, or the one node itself.
func itemsOf(node *yaml.Node) []*yaml.Node {
	if node.Kind == yaml.SequenceNode {
		return node.Content
	}
	if child(node, "kind").Value == "List" {
		return child(node, "items").Content
	}
	return []*yaml.Node{node}
}

// child returns the value of a key, an empty node if there is none.
func child(node *yaml.Node, key string) *yaml.Node {
	if node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == key {
				return behind(node.Content[i+1])
			}
		}
	}
	return &yaml.Node{Line: node.Line}
}

// behind is the node that an alias of YAML stands for.
func behind(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

// foreignReader collects the properties of one file.
type foreignReader struct {
	foreign
	aliases  []string            // in the order of the file
	flows    map[string][]string // connector classes, by flow
	line     int                 // of the first resource
	resource bool                // a KafkaMirrorMaker2 was read
}

// read reads one resource or connector, and reports whether it is one.
func (r *foreignReader) read(node *yaml.Node) bool {
	if r.flows == nil {
		r.flows, r.line = make(map[string][]string), node.Line
		r.classes = map[string]string{"env": envProvider, "file": fileProvider, "directory": directoryProvider, "secret": mountedSecret}
	}
	kind, isStrimzi := child(node, "kind").Value, strings.HasPrefix(child(node, "apiVersion").Value, "kafka.strimzi.io/")
	config := child(node, "config")
	switch {
	case isStrimzi && kind == "KafkaMirrorMaker2":
		r.strimzi(node)
	case isStrimzi && kind == "KafkaMirrorMaker":
		r.bad(node.Line, "kind", "is KafkaMirrorMaker, the first MirrorMaker, whose config has no equivalent; write a milena.yaml")
	case isStrimzi && kind == "KafkaConnector" && isMirror(child(child(node, "spec"), "class").Value):
		spec := child(node, "spec")
		r.connector("spec.config.", child(spec, "class").Value, child(spec, "config"))
	case isMirror(child(config, "connector.class").Value):
		r.connector("config.", child(config, "connector.class").Value, config)
	case isMirror(child(node, "connector.class").Value):
		r.connector("", child(node, "connector.class").Value, node)
	default:
		return false
	}
	return true
}

func isMirror(class string) bool {
	return slices.Contains([]string{sourceConnector, checkpointConnector, heartbeatConnector}, class)
}

func (r *foreignReader) bad(line int, path, format string, args ...any) {
	r.problems = append(r.problems, Problem{Line: line, Path: path, Text: fmt.Sprintf(format, args...)})
}

func (r *foreignReader) note(line int, path, format string, args ...any) {
	r.notes = append(r.notes, Note{Key: path, Line: line, Reason: fmt.Sprintf(format, args...)})
}

// put adds a property. The connectors of a flow share its keys, so they must agree.
func (r *foreignReader) put(line int, path, key, value string) {
	for _, earlier := range r.properties {
		if earlier.key == key {
			if earlier.value != value {
				r.bad(line, path, "differs from %s, and milena has one value for both; make them equal", earlier.path)
			}
			return
		}
	}
	r.properties = append(r.properties, property{key: key, value: value, line: line, path: path})
}

// putAll adds the plain values of a mapping as properties.
func (r *foreignReader) putAll(path, prefix string, node *yaml.Node) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], behind(node.Content[i+1])
		switch {
		case value.Kind != yaml.ScalarNode:
			r.bad(key.Line, path+key.Value, "is no plain value; write it as text")
		case value.ShortTag() != "!!null":
			r.put(key.Line, path+key.Value, prefix+key.Value, value.Value)
		}
	}
}

func (r *foreignReader) addAlias(alias string) {
	if !slices.Contains(r.aliases, alias) {
		r.aliases = append(r.aliases, alias)
	}
}

// addFlow adds a connector of a flow, named by the aliases of its clusters.
func (r *foreignReader) addFlow(source, target, class string) {
	r.addAlias(source)
	r.addAlias(target)
	name := source + "->" + target
	r.flows[name] = append(r.flows[name], class)
}

// connector reads the config of one connector in a Connect cluster.
func (r *foreignReader) connector(path, class string, config *yaml.Node) {
	source, target := child(config, "source.cluster.alias"), child(config, "target.cluster.alias")
	aliases := []string{source.Value, target.Value}
	if target.Value == "" {
		aliases[1] = "target" // the connectors' default
	}
	switch {
	case source.Value == "":
		r.bad(source.Line, path+"source.cluster.alias", "is missing or empty; name the source, and to keep the names of topics, write replication.policy.class: %s", identityPolicy)
		return
	case aliases[0] == aliases[1]:
		r.bad(source.Line, path+"source.cluster.alias", "is %q, as is target.cluster.alias; give each cluster an alias of its own", aliases[0])
		return
	}
	r.addFlow(aliases[0], aliases[1], class)
	for i := 0; i+1 < len(config.Content); i += 2 {
		key, value := config.Content[i], config.Content[i+1]
		one := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{key, value}}
		name := aliases[0] + "->" + aliases[1] + "."
		for side, alias := range map[string]string{"source.cluster.": aliases[0], "target.cluster.": aliases[1]} {
			if base, ok := strings.CutPrefix(key.Value, side); ok && base != "alias" {
				renamed := *key
				renamed.Value = base
				r.putAll(path+side, alias+".", &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{&renamed, value}})
				one = nil
			}
		}
		if one != nil && !slices.Contains([]string{"name", "connector.class", "tasks.max", "source.cluster.alias", "target.cluster.alias"}, key.Value) {
			r.putAll(path, name, one)
		}
	}
}

// finish adds what a file of connectors implies: a flow does what it has connectors for.
func (r *foreignReader) finish() {
	if len(r.problems) > 0 && len(r.aliases) == 0 {
		return
	}
	r.properties = append(r.properties, property{key: "clusters", value: strings.Join(r.aliases, ","), line: r.line, path: "clusters"})
	for _, source := range r.aliases {
		for _, target := range r.aliases {
			name := source + "->" + target
			if classes := r.flows[name]; classes != nil {
				r.finishFlow(name, classes)
			}
		}
	}
}

func (r *foreignReader) finishFlow(name string, classes []string) {
	if !slices.Contains(classes, sourceConnector) {
		r.bad(r.line, name, "has no MirrorSourceConnector, so it copies nothing; add it to the file")
		return
	}
	r.put(r.line, name, name+".enabled", "true")
	for _, optional := range [][2]string{{checkpointConnector, "emit.checkpoints.enabled"}, {heartbeatConnector, "emit.heartbeats.enabled"}} {
		class, key := optional[0], name+"."+optional[1]
		if !slices.Contains(classes, class) {
			r.properties = slices.DeleteFunc(r.properties, func(p property) bool { return p.key == key })
			r.put(r.line, name+" without "+class[strings.LastIndexByte(class, '.')+1:], key, "false")
		}
	}
	isSet := func(p property) bool {
		return p.key == name+".offsets.storage.topic" || p.key == name[strings.Index(name, "->")+2:]+".offset.storage.topic"
	}
	if !slices.ContainsFunc(r.properties, isSet) {
		r.put(r.line, name, name+".offsets.storage.topic", "")
		r.note(r.line, name, "does not say where the Connect cluster keeps its offsets; to continue its copies, set migrate_from in the milena.yaml that convert writes to its offset.storage.topic")
	}
}
