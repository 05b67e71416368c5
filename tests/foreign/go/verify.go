// Verifies a log folder with golang.org/x/mod/sumdb: verify FOLDER VKEY [OLD-CHECKPOINT].
package main

import (
	"bytes"
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

// rebuild hashes every entry again, builds the tree from that, and holds root and tiles against it.
//
// The tiles are not left to tlog.TileHashReader to authenticate: until x/mod 0.40.0 it skips some (CVE-2026-56865).
func rebuild(dir string, tree tlog.Tree) error {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
		for _, index := range indexes {
			out = append(out, stored[index])
		}
		return out, nil
	})
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
		for i := start; i < start+int64(tile.W); i++ {
			if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
				return fmt.Errorf("%s breaks off", path)
			}
			end := 2 + int(binary.BigEndian.Uint16(data))
			hashes, err := tlog.StoredHashes(i, data[2:end], reader)
			if err != nil {
				return err
			}
			stored = append(stored, hashes...)
			data = data[end:]
		}
		if len(data) > 0 {
			return fmt.Errorf("%s has bytes left over", path)
		}
	}
	if tree.N == 0 {
		return nil
	}
	root, err := tlog.TreeHash(tree.N, reader)
	if err != nil || root != tree.Hash {
		return errors.New("the entries give another root")
	}
	tiles := tlog.NewTiles(8, 0, tree.N)
	for i, tile := range tiles {
		if i+1 < len(tiles) && tiles[i+1].L == tile.L && tiles[i+1].N == tile.N {
			continue // A wider one of the same place follows; the narrower may be gone.
		}
		expected, err := tlog.ReadTileData(tile, reader)
		if err != nil {
			return err
		}
		found, err := folder(dir).ReadTiles([]tlog.Tile{tile})
		if err != nil {
			return err
		}
		if !bytes.Equal(found[0], expected) {
			return fmt.Errorf("%s holds other hashes than the entries give", tile.Path())
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
	if err := rebuild(args[0], tree); err != nil || len(args) == 2 {
		return err
	}
	old, err := open(args[2], args[1])
	if err != nil || old.N == 0 {
		return err
	}
	if old.N > tree.N {
		return errors.New("the log is smaller than it was")
	}
	proof, err := tlog.ProveTree(tree.N, old.N, tlog.TileHashReader(tree, folder(args[0])))
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
