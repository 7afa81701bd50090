// Package mm2 migrates a flow from MirrorMaker 2 and rolls it back to MirrorMaker 2.
package mm2
