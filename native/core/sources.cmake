# filled by the files of this floor
