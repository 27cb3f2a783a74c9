"""Graph contrastive learning with mixed negatives (extra ``graph``): DropMix under the theory of mask laws."""
