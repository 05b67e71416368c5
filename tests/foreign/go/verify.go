// Verifies a log folder with golang.org/x/mod/sumdb: verify FOLDER VKEY [OLD-CHECKPOINT].
package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// folder reads tiles where tlog-tiles puts them: `tile/L/N` for `tile/8/L/N`.
type folder string

func (f folder) Height() int                         { return 8 }
func (f folder) SaveTiles(_ []tlog.Tile, _ [][]byte) {}

func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(string(f), path))
		if err != nil {
			return nil, err
		}
		if len(data) != tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s has %d bytes", path, len(data))
		}
		out = append(out, data)
	}
	return out, nil
}

func open(path, vkey string) (tree tlog.Tree, err error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tree, err
	}
	signed, err := os.ReadFile(path)
	if err != nil {
		return tree, err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tree, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return tree, errors.New("not a checkpoint of this log")
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return tree, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || copy(tree.Hash[:], root) != tlog.HashSize {
		return tree, errors.New("not a root")
	}
	if tree.N == 0 && tree.Hash != sha256.Sum256(nil) {
		return tree, errors.New("not the root of the empty tree")
	}
	return tree, nil
}

// entries hashes every entry again and compares it with the authenticated tile above it.
func entries(dir string, tree tlog.Tree, hashes tlog.HashReader) error {
	for start := int64(0); start < tree.N; start += 256 {
		tile := tlog.Tile{H: 8, L: 0, N: start / 256, W: 256}
		if tree.N-start < 256 {
			tile.W = int(tree.N - start)
		}
		path := strings.Replace(tile.Path(), "tile/8/0/", "tile/entries/", 1)
		data, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			return err
		}
		var indexes []int64
		for i := start; i < start+int64(tile.W); i++ {
			indexes = append(indexes, tlog.StoredHashIndex(0, i))
		}
		leaves, err := hashes.ReadHashes(indexes)
		if err != nil {
			return err
		}
		for i, leaf := range leaves {
			if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
				return fmt.Errorf("%s breaks off", path)
			}
			end := 2 + int(binary.BigEndian.Uint16(data))
			if leaf != tlog.RecordHash(data[2:end]) {
				return fmt.Errorf("entry %d does not fit its hash", start+int64(i))
			}
			data = data[end:]
		}
		if len(data) > 0 {
			return fmt.Errorf("%s has bytes left over", path)
		}
	}
	return nil
}

func verify(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: verify FOLDER VKEY [OLD-CHECKPOINT]")
	}
	tree, err := open(filepath.Join(args[0], "checkpoint"), args[1])
	if err != nil {
		return err
	}
	hashes := tlog.TileHashReader(tree, folder(args[0]))
	if err := entries(args[0], tree, hashes); err != nil || len(args) == 2 {
		return err
	}
	old, err := open(args[2], args[1])
	if err != nil || old.N == 0 {
		return err
	}
	if old.N > tree.N {
		return errors.New("the log is smaller than it was")
	}
	proof, err := tlog.ProveTree(tree.N, old.N, hashes)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash)
}

func main() {
	if err := verify(os.Args[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
